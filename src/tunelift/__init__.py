"""LoRA and QLoRA fine-tuning with proof that the tuned model is better."""

__version__ = "0.1.0"
