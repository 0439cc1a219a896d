"""What a request on this device costs, each time beside the floor that nothing goes below."""
