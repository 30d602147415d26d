"""streamkit for JAX: batches on the device before the step asks for them.

```python
import streamkit as sk
from streamkit_jax import DeviceFeed

feed = DeviceFeed(sk.Loader(ds, batch_size=256))
for batch in feed:  # the loader's own pytree; numeric leaves are jax.Array
    params, loss = train_step(params, batch)
state = feed.state_dict()  # what the loop was given, not what lies prefetched
```
"""

try:
    import jax as _jax  # noqa: F401
except ModuleNotFoundError as error:
    from streamkit import MissingDependencyError

    raise MissingDependencyError.for_extra("jax", "jax", "streamkit_jax") from error

from streamkit_jax.feed import DeviceFeed, FeedStats

__all__ = ["DeviceFeed", "FeedStats"]
