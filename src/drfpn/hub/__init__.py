"""Publishing of runs on the Hugging Face Hub.

Example::

    print(push("runs/RUN", "user/name").url)
    predictor = drfpn.inference.load_predictor("hf:user/name")
"""

from drfpn.hub.push import PushResult, push

__all__ = ["PushResult", "push"]
