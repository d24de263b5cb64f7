"""The web page: ``jobs`` runs what visitors ask for, ``page`` is what they see (needs Gradio)."""
