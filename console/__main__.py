"""`python -m console` is `renewd`; it is how `renewd up` starts its children."""

import sys

from console.main import main

sys.exit(main())
