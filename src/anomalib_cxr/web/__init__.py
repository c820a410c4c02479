"""The worklist in a browser: a table, a viewer, verdicts, and the upload of an image; all from this machine alone.

For research, not a medical device.
"""
