"""Samplers and solvers: functions of an initial state and a prediction or a field, which yield the states.

`dgm.samplers.diffusion` and `dgm.samplers.sequential` apply them to a model.
"""
