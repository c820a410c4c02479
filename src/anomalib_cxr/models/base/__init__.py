"""Base class and components shared by the models."""
