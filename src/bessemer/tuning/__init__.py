"""Fine-tuning of small models: methods, the tuner that steps them, checkpoints, credit, and the job around it all."""
