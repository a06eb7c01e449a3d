"""How corruption is undone: functions of a state and a field, which yield states and hold no model."""
