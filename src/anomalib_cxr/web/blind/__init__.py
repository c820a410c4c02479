"""Blind readings: several people read the same X-rays before they see anything of the model or of each other."""
