"""The names that LeRobot gives to the features of a policy: joint state, action, cameras."""

STATE = "observation.state"
ACTION = "action"
CAMERA_PREFIX = "observation.images."
