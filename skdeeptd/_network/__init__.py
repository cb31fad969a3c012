"""The patch network: layout, forward pass, derivatives, fitted attributes."""
