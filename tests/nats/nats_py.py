"""The side of nats-py in tests/nats/interop.rs: python3 nats_py.py URL MAX_PAYLOAD."""

import asyncio
import sys

import nats


def binary(length):
    return bytes(at % 256 for at in range(length))


async def main(url, max_payload):
    connection = await nats.connect(url)
    ended = asyncio.Event()
    worked = []

    async def echo(message):
        await connection.publish(message.reply, message.data, headers=message.headers)

    async def ask(message):
        """Asks on the subject that the request names, and answers with what came of it."""
        subject = message.data.decode()
        said = "ok"
        try:
            for length in (0, 1, 125, 126, 65_535, 65_536, max_payload - 100):
                headers = {"Name": "Grüße", "Length": str(length)}
                answer = await connection.request(
                    subject, binary(length), timeout=10, headers=headers
                )
                if answer.data != binary(length) or answer.headers != headers:
                    said = f"{length} bytes came back as {len(answer.data)}, {answer.headers}"
            answer = await connection.request(subject, binary(max_payload), timeout=10)
            if answer.data != binary(max_payload):
                said = f"{max_payload} bytes came back as {len(answer.data)}"
        except Exception as error:
            said = type(error).__name__
        await message.respond(said.encode())

    async def work(message):
        worked.append(message.data.decode())

    async def tell_work(message):
        # What was sent before may be on its way to the other task: who asks asks again.
        await message.respond(" ".join(worked).encode())

    async def end(message):
        ended.set()

    await connection.subscribe("py.echo", cb=echo)
    await connection.subscribe("py.ask", cb=ask)
    await connection.subscribe("py.work", "group", cb=work)
    await connection.subscribe("py.worked", cb=tell_work)
    await connection.subscribe("py.end", cb=end)
    await connection.flush()
    print("ready", flush=True)
    await asyncio.wait_for(ended.wait(), 60)
    await connection.close()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
