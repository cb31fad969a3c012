"""The patch network: its kernel sizes and the layout of its patches."""
