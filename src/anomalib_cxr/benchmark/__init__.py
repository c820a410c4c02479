"""The comparison of systems: a grid of trainings, each scored by two protocols, and the report on them."""
