"""Values that people install the chart with, from a trial to everything switched on."""

from collections.abc import Mapping
from typing import Any

ROUTES = {
    "digits": {
        "match": {"path_prefix": "/v2/models/digits"},
        "adapter": "open_inference",
        "affinity": ["header:x-user-id"],
        "variants": {"v1": {"url": "http://digits-v1:9001"}, "v2": {"url": "http://digits-v2:9001"}},
        "stable": "v1",
    }
}
BASE: Mapping[str, Any] = {"config": {"routes": ROUTES}, "auth": {"existingSecret": {"name": "turnout-tokens"}}}
ROLLOUT = {
    "candidate": "v2",
    "policy": "canary",
    "steps": [{"mirror": "100%", "min_pairs": 500}, {"weight": "10%", "bake": "60s"}],
    "gates": [{"metric": "error_rate", "max_increase": "0.5pp"}],
}

SETS: Mapping[str, Mapping[str, Any]] = {
    "trial": {**BASE, "valkey": {"enabled": True}},
    "trial_without_disk": {
        **BASE,
        "valkey": {"enabled": True, "persistence": {"enabled": False}},
        "networkPolicy": {"egress": {"enabled": True}},
    },
    "own_store": {**BASE, "store": {"url": "redis+sentinel://s1,s2,s3/main"}},
    "store_in_a_secret": {**BASE, "store": {"existingSecret": {"name": "redis", "key": "turnout-url"}}},
    "numbers_and_times": {  # what YAML and Go's numbers could change on the way into the ConfigMap
        **BASE,
        "store": {"url": "redis://redis:6379/3"},
        "config": {
            "gateway": {"workers": 4, "limits": {"connections": 1_000_000, "idle": "75s"}},
            "freeze": [
                {"days": ["mon"], "from": "16:00", "until": "08:00", "timezone": "Europe/Berlin"},
                {"from": "2026-12-20T00:00:00Z", "until": "2027-01-02T00:00:00Z", "reason": "holidays: #1"},
            ],
            "routes": {"digits": {**ROUTES["digits"], "rollout": {**ROLLOUT, "alpha": 0.01}}},
        },
    },
    "tls_and_ingress": {
        **BASE,
        "store": {"url": "rediss://redis:6380/0"},
        "gateway": {
            "tls": {"existingSecret": "cert", "clientCaKey": "ca.crt"},
            "service": {"type": "LoadBalancer", "port": 443, "annotations": {"cloud/lb": "internal"}},
            "drain": {"preStopSeconds": 2, "delaySeconds": 30, "deadlineSeconds": 120},
        },
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "annotations": {"a": "b"},
            "hosts": [{"host": "models.example", "paths": [{"path": "/v2"}]}, {"host": "other.example"}],
            "tls": [{"hosts": ["models.example"], "secretName": "front"}],
        },
    },
    "everything": {
        **BASE,
        "config": {
            "routes": {"digits": {**ROUTES["digits"], "rollout": ROLLOUT}},
            "webhooks": {
                "hooks": [{"name": "news", "type": "event", "url": "https://hooks.example/turnout"}],
                "allow": ["hooks.example"],
            },
        },
        "fullnameOverride": "rollouts",
        "image": {"repository": "registry.example/turnout", "digest": "sha256:" + "0" * 64, "pullSecrets": ["pull"]},
        "store": {"url": "redis+cluster://redis-0,redis-1"},
        "webhooks": {"existingSecret": {"name": "hooks"}},
        "gateway": {
            "autoscaling": {"enabled": True, "inFlight": 50},
            "podDisruptionBudget": {"maxUnavailable": "25%"},
            "priorityClassName": "serving",
            "nodeSelector": {"pool": "serving"},
            "tolerations": [{"key": "serving", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
            "podAnnotations": {"a": "b"},
            "podLabels": {"team": "models"},
            "extraEnv": [{"name": "TURNOUT_LOG__LEVEL", "value": "warning"}],
            "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
            "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}],
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
            ],
        },
        "control": {"priorityClassName": "serving", "podDisruptionBudget": {"enabled": False}},
        "serviceAccount": {"annotations": {"a": "b"}},
        "networkPolicy": {
            "trafficFrom": [{"namespaceSelector": {"matchLabels": {"team": "web"}}}],
            "egress": {"enabled": True, "rules": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
        },
        "serviceMonitor": {"enabled": True, "controlToken": {"name": "viewer"}, "labels": {"release": "prom"}},
        "prometheusRule": {"enabled": True, "runbooks": "https://wiki.example/turnout", "labels": {"release": "prom"}},
        "dashboard": {"enabled": True, "annotations": {"folder": "models"}},
    },
    "bare": {
        **BASE,
        "store": {"url": "unix:///run/redis.sock"},
        "serviceAccount": {"create": False},
        "networkPolicy": {"enabled": False},
        "gateway": {"podDisruptionBudget": {"enabled": False}},
    },
}
