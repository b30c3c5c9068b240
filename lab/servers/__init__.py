"""Private Postgres and RabbitMQ servers, on free ports and with their own directories.

They never touch a server that already runs on the machine, need neither systemd nor Docker, run as
`nobody` when started by root, and are gone, directory included, when their owner is.
"""
