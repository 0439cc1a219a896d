"""``make bench-delta``: the delta engine against every peer, on trained and on given pairs."""
