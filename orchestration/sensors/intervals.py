"""How often sensors look."""

import os

# a daemon looks every five seconds at most, whatever is asked
SECONDS_BETWEEN_LOOKS = int(os.environ.get("FLEET_LOOK_SECONDS") or 60)
