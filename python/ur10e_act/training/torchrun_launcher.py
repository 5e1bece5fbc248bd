"""torchrun, but for its end: the status of the failed rank instead of 1, and no traceback of the launcher.

The arguments are torchrun's:

    python -m ur10e_act.training.torchrun_launcher --standalone --nproc-per-node=2 train.py --config F
"""

from __future__ import annotations

import logging
import sys

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from ur10e_act.errors import TRY_AGAIN_STATUS


def run() -> int:
    """Run torchrun; what was ended by signal N, a rank or all of them, counts as 128 + N, as in a shell."""
    # Machine 0 has the launchers' store, and may leave before another has read there that all are done. Torch
    # tells that with a traceback, though it is not a failure.
    agent = logging.getLogger("torch.distributed.elastic.agent.server.api")
    agent.addFilter(lambda record: "Error waiting on exit barrier" not in str(record.msg))
    try:
        main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        status = failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
        print(f"rank {rank} ended with status {status}; all ranks were stopped", file=sys.stderr)
        return status
    except SignalException as error:
        # torchrun has passed the signal on to the ranks, and waited for their end.
        print(f"ended by {error.sigval.name}; all ranks were stopped", file=sys.stderr)
        return 128 + error.sigval
    except dist.DistError as error:
        print(f"the other machines cannot be reached: {str(error).splitlines()[0]}", file=sys.stderr)
        return TRY_AGAIN_STATUS
    return 0


if __name__ == "__main__":
    sys.exit(run())
