from .checking import verify as verify
from .night import run_night as run_night
from .outcome import Night as Night
from .repair import Repair as Repair
from .repair import repair as repair
from .report import find as find
from .report import status as status
from .settings import Settings as Settings
