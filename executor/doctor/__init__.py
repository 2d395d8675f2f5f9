"""`python -m executor doctor`: what is wrong with the setup, and how to fix it."""
