"""`python -m lab.servers start|stop|hold|rabbitmq-installed`, for the Makefile and deploy/setup.sh."""

import sys

from lab.servers import rabbitmq, services
from lab.servers.process import ServerError


def main(command: str) -> int:
    """Exit code: 0 done, 1 not installed, 2 wrong use, 3 a server cannot be had."""
    try:
        match command:
            case "start":
                sys.stdout.write(services.start())
            case "stop":
                services.stop()
            case "hold":
                services.hold()
            case "rabbitmq-installed":
                return 0 if rabbitmq.installed() else 1
            case _:
                sys.stderr.write("servers: expected start, stop, hold or rabbitmq-installed\n")
                return 2
    except ServerError as error:
        sys.stderr.write(f"servers: {error}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or [""]))
