"""What `cdc run` imports, for `tests.support.warm`: only modules that start no thread."""

from cdc.cli.pandas_left_out import leave_pandas_out

leave_pandas_out()

import numpy.ma  # noqa: E402, F401
import rich.progress  # noqa: E402, F401

import cdc.app.replication  # noqa: E402
import cdc.cli.run  # noqa: E402
import cdc.cli.watermark  # noqa: E402
import cdc.observe.log  # noqa: E402, F401
