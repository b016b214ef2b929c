"""Which provider and model a session means, and whether the model takes the effort. Pure."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from podium.errors import FailedPrecondition, InvalidArgument
from podium.v1 import provider_pb2, runner_pb2, session_pb2


class Catalog:
    """What the runners tell of their providers and models."""

    def __init__(self, runners: Iterable[runner_pb2.Runner], catalogs: Iterable[runner_pb2.ModelCatalog]) -> None:
        """Take the living runners, and the models that any runner has told of."""
        self.providers = {provider.name: provider for runner in runners for provider in runner.providers}
        by_key = {(model.provider, model.value): model for catalog in catalogs for model in catalog.models}
        self.models: Sequence[provider_pb2.Model] = sorted(
            by_key.values(), key=lambda model: (model.provider, model.priority, model.value)
        )

    def find_model(self, name: str, provider: str = "") -> provider_pb2.Model | None:
        """Return the model with this value, resolved name or display name; the first by provider and priority."""
        offered = [model for model in self.models if provider in ("", model.provider)]
        for spelling in ("value", "resolved_model", "display_name"):
            for model in offered:
                if getattr(model, spelling).lower() == name.lower():
                    return model
        return None

    def settle(self, session: session_pb2.Session, default_provider: str) -> None:
        """Fill in provider and vendor; raises for a provider, model or effort that nobody offers.

        With a model alone the provider is found. A model that no client lists is handed to a named provider as it is:
        clients know more models than they list.
        """
        model = self.find_model(session.model, session.provider) if session.model else None
        if not session.provider and session.model and model is None:
            raise self._unknown_model(session.model)
        session.provider = session.provider or (model.provider if model is not None else default_provider)
        if self.providers and session.provider not in self._known():
            known = ", ".join(sorted(self._known()))
            raise InvalidArgument(
                "session.provider", found=session.provider, expected=f"one of {known}", reason="PROVIDER_UNKNOWN"
            )
        told = self.providers.get(session.provider, provider_pb2.Provider())
        session.vendor = model.vendor if model is not None else told.vendor
        self.check_effort(session.provider, session.model, session.effort)
        self.check_permission_mode(session.provider, session.permission_mode)

    def check_effort(self, provider: str, model_name: str, effort: str) -> None:
        """Raise InvalidArgument for an effort that the model does not take; a model nobody lists may take any."""
        if not effort:
            return
        model = self.find_model(model_name, provider) if model_name else self._default_of(provider)
        if model is None or effort in [known.value for known in model.efforts]:
            return
        supported = ", ".join(known.value for known in model.efforts) or "none: its effort cannot be set"
        raise InvalidArgument(
            "effort",
            found=effort,
            expected=f"what {model.value} takes: {supported}",
            reason="EFFORT_NOT_SUPPORTED",
            model=model.value,
            supported=",".join(known.value for known in model.efforts),
        )

    def check_permission_mode(self, provider: str, mode: session_pb2.PermissionMode.ValueType) -> None:
        """Raise FailedPrecondition for a mode that the provider does not have on any living runner."""
        told = self.providers.get(provider)
        name = mode_name(mode)
        if told is None or not mode or name in told.capabilities.permission_modes:
            return
        supported = ", ".join(told.capabilities.permission_modes)
        message = f"{provider} has no permission mode {name} here; it has {supported}"
        raise FailedPrecondition("PERMISSION_MODE_NOT_SUPPORTED", message, mode=name, supported=supported)

    def _known(self) -> set[str]:
        return set(self.providers) | {model.provider for model in self.models}

    def _default_of(self, provider: str) -> provider_pb2.Model | None:
        offered = [model for model in self.models if model.provider == provider and model.is_default]
        return offered[0] if offered else None

    def _unknown_model(self, name: str) -> InvalidArgument:
        near = get_close_matches(name, [model.value for model in self.models], n=3, cutoff=0.4)
        expected = f"a model from ListModels (near it: {', '.join(near)})" if near else "a model from ListModels"
        return InvalidArgument("session.model", found=name, expected=expected, reason="MODEL_UNKNOWN")


def mode_name(mode: session_pb2.PermissionMode.ValueType) -> str:
    """Return the mode as capabilities and SQL spell it, e.g. `accept_edits`."""
    return session_pb2.PermissionMode.Name(mode).removeprefix("PERMISSION_MODE_").lower()
