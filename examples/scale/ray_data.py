"""Label Parquet with Ray Data, a model for each GPU: python ray_data.py INPUT OUTPUT [MODEL [WORKERS]]"""

from __future__ import annotations

import sys

import preftree as pt


def main(source: str, target: str, model: str = "/tmp/judge", workers: str = "8") -> None:
    import ray.data

    labels = ray.data.read_parquet(source).map_batches(
        pt.PairLabeler,
        fn_constructor_kwargs={"model": model, "dtype": "bfloat16"},
        compute=ray.data.ActorPoolStrategy(size=int(workers)),
        num_gpus=1,
        batch_size=2048,
        batch_format="pyarrow",
    )
    labels.write_parquet(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
