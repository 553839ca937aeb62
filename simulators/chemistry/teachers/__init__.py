"""Published pre-trained models as simulators; each runs in a process of another interpreter, which has PyTorch."""
