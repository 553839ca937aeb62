"""Reactor kinetics: species over time, by stiff ordinary differential equations."""
