"""``python -m demo`` is ``python -m demo.run``."""

from demo.run import main

main()
