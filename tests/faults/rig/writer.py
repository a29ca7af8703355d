"""A program that records numbered calls and notes in a file which of its events were acknowledged.

Arguments: spool, hooks/record, file of acknowledgements, first number, calls, the client's pid. It is written to be
killed: an acknowledgement is one write after the event is complete.
"""

import json
import os
import subprocess
import sys


def main() -> None:
    spool, record, acknowledged, first, calls, client = sys.argv[1:]
    acks = os.open(acknowledged, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    serial = 0
    for number in range(int(first), int(first) + int(calls)):
        call = {"tool_name": "Bash", "tool_use_id": f"call-{number}", "tool_input": {"command": "make"}}
        common = {"session_id": f"s-{number % 3}", "cwd": "/home/dev"} | call
        start = json.dumps(common | {"hook_event_name": "PreToolUse"}).encode()
        end = json.dumps(
            common
            | {"hook_event_name": "PostToolUse", "duration_ms": number % 900, "tool_response": {"stdout": "x" * 99}}
        ).encode()
        for kind, payload in (("PreToolUse", start), ("PostToolUse", end)):
            if number % 16 == 0:
                options = {"input": payload, "env": {"PATH": os.defpath, "TASKSD_DATA_DIR": os.path.dirname(spool)}}
                done = subprocess.run([record], check=False, **options)  # type: ignore[call-overload]
                if done.returncode != 0:
                    sys.exit(f"hooks/record ended with {done.returncode}")
            else:
                # Every fourth call is recorded by both registrations, as with the plugin beside settings.json.
                for mark in ("", "p") if number % 4 == 1 else ("",):
                    serial += 1
                    name = f"-.{client}.{os.getpid()}.{mark}{serial}.json"
                    file = os.open(f"{spool}/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
                    for part in (payload[:40], payload[40:]):
                        os.write(file, part)
                    os.close(file)
            os.write(acks, f"{kind} call-{number}\n".encode())


if __name__ == "__main__":
    main()
