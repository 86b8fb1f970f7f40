"""What operators see of the data plane: metrics and structured logs.

Owns names, labels and the log format. Must not know prompts, answers or credentials, nor who measures.
"""
