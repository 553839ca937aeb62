"""The shallow-water equations on the sphere."""
