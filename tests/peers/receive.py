"""An SMTP (or LMTP, RFC 2033) receiver made of aiosmtpd that keeps the exact bytes of what it takes.

usage: receive.py FOLDER [lmtp]
Listens on a free port of 127.0.0.1 and writes FOLDER/ready.json {"address"}. The message number N becomes FOLDER/N.eml
(bytes as they came, unstuffed), then FOLDER/N.json {"mail_from", "rcpt_tos"}. Stops on SIGTERM.
"""

import asyncio
import json
import os
import signal
import sys

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP


class Keeper:
    def __init__(self, folder):
        self.folder = folder
        self.count = 0

    async def handle_DATA(self, server, session, envelope):
        number = self.count
        self.count += 1
        with open(os.path.join(self.folder, f"{number}.eml"), "wb") as file:
            file.write(envelope.content)
        write_whole(
            os.path.join(self.folder, f"{number}.json"),
            {"mail_from": envelope.mail_from, "rcpt_tos": envelope.rcpt_tos},
        )
        # LMTP wants a reply for each recipient (RFC 2033 section 4.2).
        replies = len(envelope.rcpt_tos) if isinstance(server, LMTP) else 1
        return "\r\n".join([f"250 2.0.0 kept as {number}"] * replies)


def write_whole(path, value):
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.rename(path + ".new", path)


async def main(folder, protocol):
    keeper = Keeper(folder)

    def session():
        return protocol(keeper, enable_SMTPUTF8=True, data_size_limit=64 * 1024 * 1024, hostname="aiosmtpd.localhost")

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(session, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    write_whole(os.path.join(folder, "ready.json"), {"address": f"{host}:{port}"})
    await stop.wait()
    server.close()


asyncio.run(main(sys.argv[1], LMTP if sys.argv[2:] == ["lmtp"] else SMTP))
