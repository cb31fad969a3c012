"""The patch network: its layout, its parameters, its derivatives. Nothing is fitted."""
