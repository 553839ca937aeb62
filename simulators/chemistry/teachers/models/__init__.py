"""What the interpreters of pre-trained models run: nothing here is imported by the rest of the project."""
