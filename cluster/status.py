"""`twinroom cluster status`: where each region stands."""

from __future__ import annotations

import time

from agents.chain import group_name, group_of, topics_of
from streams.cluster import Cluster
from streams.kafka import ends_of
from streams.observation import time_text
from streams.snapshots import Snapshots

COLUMNS = ("region", "owner", "epoch", "lag", "snapshot age", "last step")


async def status_lines(cluster: Cluster, agents: str) -> list[str]:
    """A line for each region: who has it, messages behind, age of its snapshot, event time."""
    names = group_of(agents)
    topics = topics_of(names)
    ends = await ends_of(cluster, topics)
    snapshots = Snapshots(cluster, group_name(names))
    try:
        rows = [COLUMNS]
        for partition, region in enumerate(cluster.regions):
            about, offsets = await snapshots.about(region)
            lag = sum(ends[t, partition][1] - offsets.get(t.value, ends[t, partition][0]) for t in topics)
            seen_ms, step_ms = int(about.get("seen_ms", 0)), int(about.get("step_ms", 0))
            rows.append(
                (
                    region,
                    about.get("owner", "nobody yet"),
                    about.get("epoch", "-"),
                    str(lag),
                    f"{max(0.0, time.time() - seen_ms / 1000):.1f} s" if seen_ms else "none",
                    time_text(step_ms) if step_ms else "none",
                )
            )
    finally:
        await snapshots.close()
    widths = [max(len(row[c]) for row in rows) for c in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
