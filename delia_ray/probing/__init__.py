<<<<<<< HEAD
"""What the method's theory predicts, measured on a run's own models."""
=======
"""Looks inside the models: what the new token has come to mean."""
>>>>>>> 45b4db6 (Look at what the new token has come to mean)
