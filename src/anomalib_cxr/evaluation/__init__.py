"""What a training and a test leave behind for readers: curves, tables, pictures, and where they come from."""
