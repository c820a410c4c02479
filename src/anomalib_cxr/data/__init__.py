"""Reading, checking, splitting and drawing chest X-rays."""
