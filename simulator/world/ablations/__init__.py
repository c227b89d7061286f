"""Known bugs of payment systems, each ready to be planted in the product for the length of a run. `plant.py` says how."""
