"""Many videos and folders of images in, masks and a manifest out: on this machine, or on a Ray cluster.

    python -m runtime.batch ARTIFACT --source DIR --out DIR

    sources ─▶ items ─▶ (a worker) segments at key frames ─▶ (workers) masks, then a record ─▶ a row of the manifest
    items.py            cut.py                               worker.py, masks.py               driver.py, manifest.py

Everything is written under the folder or bucket of `--out` (`store.py`), each file whole or not there. A segment whose
record is there is finished, whoever made it; so a run that broke off continues where it was, and one that a segment is
given to twice, as its first worker was thought dead, writes the same files again.
"""
