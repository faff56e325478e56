"""Every error that a client can see, named once.

    CauceError                       status  code
      RequestError                           the application can act
        BadJson                       400    invalid_json
        BadRequest                    400    invalid_request_error
        BodyTooLarge                  413    request_too_large
        BodyTimeout                   408    request_timeout
        UnknownModel                  404    model_not_found
        UnknownPath                   404    not_found
        UnknownRequest                404    request_not_found
        WrongMethod                   405    method_not_allowed
      CallerError                            whoever gave out the key can act
        MissingKey                    401    missing_api_key
        BadKey                        401    invalid_api_key
        ModelNotAllowed               403    model_not_allowed
        LimitExceeded                 429    rate_limit_exceeded
        BudgetExceeded                429    budget_exceeded
      PolicyError                            operations can act
        NothingAllowed                503    no_allowed_model
        GateRefused                   503    gate_refused
        BudgetUnavailable             503    budget_unavailable
      UpstreamError                          the provider, or whoever runs the model, can act
        UpstreamTimeout               504    upstream_timeout
        UpstreamUnreachable           502    upstream_unreachable
        UpstreamOverloaded            503    upstream_overloaded   (429 when the upstream said 429)
        UpstreamPaused                503    upstream_paused
        UpstreamFailed                502    upstream_error
        UpstreamBroken                502    upstream_broken_answer
        UpstreamDenied                502    upstream_auth
        UpstreamMissing               502    upstream_model_missing
        UpstreamRejected              400    upstream_rejected   (the status that the upstream gave)
        UpstreamUnfit                 400    unsupported_by_model   (the status that the upstream gave)
        UpstreamContext               400    context_length_exceeded
        UpstreamFiltered              400    content_filter
      GatewayError                           we can act
        InternalError                 500    internal_error
        Overloaded                    503    gateway_overloaded
      ConfigError                            not sent to clients: stops the start, or a command, with exit code 2

A message says what happened, to what, and what to do; it never holds the text of a request.
"""

from __future__ import annotations


class CauceError(Exception):
    """Root of the tree. `status` is the HTTP status, `code` the stable name, `type` OpenAI's group."""

    status = 500
    code = "internal_error"
    type = "api_error"

    def __init__(self, message: str, *, retry_after_s: float | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.param = param

    def as_object(self, request_id: str) -> dict[str, object]:
        """OpenAI's error object."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
                "request_id": request_id,
            }
        }


class RequestError(CauceError):
    """The application can act."""

    status, code, type = 400, "invalid_request_error", "invalid_request_error"


class BadJson(RequestError):
    """The body is not valid JSON."""

    code = "invalid_json"


class BadRequest(RequestError):
    """A field or a header is missing or is not what it should be; `param` names it."""


class BodyTooLarge(RequestError):
    """The body is larger than `limits.max_body_mb`."""

    status, code = 413, "request_too_large"


class BodyTimeout(RequestError):
    """The headers took longer than `limits.header_timeout_s`, or the body than `limits.body_timeout_s`."""

    status, code = 408, "request_timeout"


class UnknownModel(RequestError):
    """`model` names no model, route or alias of this gateway."""

    status, code = 404, "model_not_found"


class UnknownPath(RequestError):
    """There is nothing at this path."""

    status, code = 404, "not_found"


class UnknownRequest(RequestError):
    """Feedback for a request that this caller never made."""

    status, code = 404, "request_not_found"


class WrongMethod(RequestError):
    """The path is there and takes another method; `allow` names it."""

    status, code = 405, "method_not_allowed"


class CallerError(CauceError):
    """Whoever gave out the key can act."""

    status, code, type = 401, "invalid_api_key", "authentication_error"


class MissingKey(CallerError):
    """The gateway asks for a key and none was sent."""

    code = "missing_api_key"


class BadKey(CallerError):
    """The key is not known, was revoked or has expired."""


class ModelNotAllowed(CallerError):
    """The key may not use this model."""

    status, code, type = 403, "model_not_allowed", "permission_error"


class LimitExceeded(CallerError):
    """The key, or whom it belongs to, has used up its requests or tokens of this minute; see `retry-after`."""

    status, code, type = 429, "rate_limit_exceeded", "rate_limit_error"


class BudgetExceeded(CallerError):
    """A hard budget does not cover what the call may cost, and no free model may answer; says until when."""

    status, code, type = 429, "budget_exceeded", "insufficient_quota"


class PolicyError(CauceError):
    """Operations can act."""

    status, code, type = 503, "no_allowed_model", "policy_error"


class NothingAllowed(PolicyError):
    """No configured model may and can answer this request; the message names the rule and the reasons."""


class GateRefused(PolicyError):
    """The text was about to go where the guarantees forbid; it did not leave."""

    code = "gate_refused"


class BudgetUnavailable(PolicyError):
    """The store of budgets is away: nothing that costs money is called for a caller with a hard budget."""

    code = "budget_unavailable"


class UpstreamError(CauceError):
    """The provider, or whoever runs the model, can act. `upstream` is the model's id.

    `passing`: the same call may go well in a moment, so it is worth a retry.
    """

    status, code, type = 502, "upstream_error", "upstream_error"
    passing = False

    def __init__(
        self, message: str, *, upstream: str = "", retry_after_s: float | None = None, param: str | None = None
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s, param=param)
        self.upstream = upstream


class UpstreamTimeout(UpstreamError):
    """It gave no answer within the model's `timeouts`. Not asked again: the time for it has been spent."""

    status, code = 504, "upstream_timeout"


class UpstreamUnreachable(UpstreamError):
    """No connection to it could be made."""

    code, passing = "upstream_unreachable", True


class UpstreamOverloaded(UpstreamError):
    """It, or the queue before it, takes no more calls now. `passing` is false for a quota that is used up."""

    status, code, passing = 503, "upstream_overloaded", True

    def __init__(
        self,
        message: str,
        *,
        upstream: str = "",
        retry_after_s: float | None = None,
        status: int = 503,
        passing: bool = True,
    ) -> None:
        super().__init__(message, upstream=upstream, retry_after_s=retry_after_s)
        self.status = status
        self.passing = passing


class UpstreamPaused(UpstreamError):
    """Its last calls failed, so it is left alone for a moment: its circuit breaker is open (`models.NAME.breaker`)."""

    status, code = 503, "upstream_paused"


class UpstreamFailed(UpstreamError):
    """It answered with a fault of its own (5xx)."""

    passing = True


class UpstreamBroken(UpstreamError):
    """Its answer stopped half way or is not in the API's shape."""

    code, passing = "upstream_broken_answer", True


class UpstreamDenied(UpstreamError):
    """It does not accept the gateway's key, or the account may not use this model."""

    code = "upstream_auth"


class UpstreamMissing(UpstreamError):
    """It does not know the model, or has no API at this address: `model` and `base_url` in cauce.yaml say what."""

    code = "upstream_model_missing"


class UpstreamRejected(UpstreamError):
    """The upstream says that the request itself is wrong: another model would not help."""

    status, code, type = 400, "upstream_rejected", "invalid_request_error"

    def __init__(self, message: str, *, upstream: str = "", status: int = 400, param: str | None = None) -> None:
        super().__init__(message, upstream=upstream, param=param)
        self.status = status


class UpstreamUnfit(UpstreamError):
    """This model does not take a part of the request (a parameter, tools, images): another one may."""

    status, code, type = 400, "unsupported_by_model", "invalid_request_error"

    def __init__(self, message: str, *, upstream: str = "", status: int = 400) -> None:
        super().__init__(message, upstream=upstream)
        self.status = status


class UpstreamContext(UpstreamError):
    """The request is longer than the model's context."""

    status, code, type = 400, "context_length_exceeded", "invalid_request_error"


class UpstreamFiltered(UpstreamError):
    """The provider's content filter refused the request."""

    status, code, type = 400, "content_filter", "invalid_request_error"


class GatewayError(CauceError):
    """We who make Cauce can act."""


class InternalError(GatewayError):
    """A fault of the gateway itself; its log has the request's id."""


class Overloaded(GatewayError):
    """The gateway has `limits.max_in_flight` requests already."""

    status, code = 503, "gateway_overloaded"


class ConfigError(CauceError):
    """A file, an option or an artefact is wrong; `where` is `file:line:column` when it is known."""

    code = "config_error"

    def __init__(self, message: str, *, where: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.where = where
