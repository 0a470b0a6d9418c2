"""Pretraining and adversarial fine-tuning: one loop each, one D step, one G step."""
