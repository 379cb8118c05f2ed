"""Videos in other containers, for tests."""

from pathlib import Path

import av


def remuxed(file: Path, target: Path, **options: str) -> Path:
    """The same frames in another container."""
    with av.open(str(file)) as old, av.open(str(target), "w", options=options) as new:
        source = old.streams.video[0]
        stream = new.add_stream_from_template(source)
        for packet in old.demux(source):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return target
