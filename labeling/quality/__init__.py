"""How good labels are, gathered row by row."""
