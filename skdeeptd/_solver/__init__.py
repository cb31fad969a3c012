"""How a network is found: decompose, calibrate, search, polish, choose."""
