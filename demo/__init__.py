"""The main job on real input, from training to a rolled-back update, with one command.

``python -m demo.run`` (``make demo``); nothing of the product imports this.
"""
