{{- define "turnout.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What Kubernetes finds things by; it can never change, so nothing that an upgrade changes is among it. */}}
{{- define "turnout.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "turnout.labels" -}}
{{ include "turnout.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "turnout.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "turnout.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "turnout.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The file, as it stands in the ConfigMap. */}}
{{- define "turnout.config" -}}
{{- toYaml .Values.config -}}
{{- end -}}

{{/* What values.schema.json cannot say, or not clearly. */}}
{{- define "turnout.check" -}}
{{- if not .Values.config.routes -}}
{{- fail "config.routes is empty: say which model servers Turnout stands in front of, as in turnout.yaml (docs/configuration.md)" -}}
{{- end -}}
{{- if not .Values.auth.existingSecret.name -}}
{{- fail "auth.existingSecret.name is empty: the admin API can be reached from other pods, so it needs tokens. Run `turnout token`, put its entry into a secret: kubectl create secret generic turnout-tokens --from-literal=tokens='[{name: me, role: admin, hash: \"...\"}]', and name that secret" -}}
{{- end -}}
{{- $stores := 0 -}}
{{- if .Values.store.url }}{{ $stores = add1 $stores }}{{ end -}}
{{- if .Values.store.existingSecret.name }}{{ $stores = add1 $stores }}{{ end -}}
{{- if .Values.valkey.enabled }}{{ $stores = add1 $stores }}{{ end -}}
{{- if ne (int $stores) 1 -}}
{{- fail (printf "%d stores are named, expected one: store.url (your Redis or Valkey), store.existingSecret.name (its URL in a secret), or for a trial valkey.enabled=true" (int $stores)) -}}
{{- end -}}
{{- if regexMatch "//[^/]*@" .Values.store.url -}}
{{- fail "store.url holds a user or password, which everybody could read who may read pods: put the URL into a secret and name it in store.existingSecret.name" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.serviceMonitor.controlToken.name) -}}
{{- fail "serviceMonitor.controlToken.name is empty: control's metrics need a viewer's token. Make one by `turnout token --role viewer`, put it into a secret and name that" -}}
{{- end -}}
{{- if and .Values.gateway.tls.clientCaKey (not .Values.gateway.tls.existingSecret) -}}
{{- fail "gateway.tls.clientCaKey needs gateway.tls.existingSecret: clients can show certificates only over TLS" -}}
{{- end -}}
{{- if and .Values.gateway.autoscaling.enabled (not .Values.gateway.autoscaling.cpuPercent) (not .Values.gateway.autoscaling.inFlight) -}}
{{- fail "gateway.autoscaling has no target: set cpuPercent, inFlight or both" -}}
{{- end -}}
{{- end -}}

{{/* Where the store is, for both processes. */}}
{{- define "turnout.storeEnv" -}}
- name: TURNOUT_STORE__URL
{{- if .Values.store.existingSecret.name }}
  valueFrom:
    secretKeyRef:
      name: {{ .Values.store.existingSecret.name }}
      key: {{ .Values.store.existingSecret.key }}
{{- else if .Values.store.url }}
  value: {{ .Values.store.url | quote }}
{{- else }}
  value: redis://{{ include "turnout.fullname" . }}-valkey:6379/0
{{- end }}
- name: TURNOUT_STORE__DIRECTORY
  value: /var/lib/turnout
{{- end -}}

{{/* The part that the pods of both processes have in common. */}}
{{- define "turnout.pod" -}}
{{- $own := index .root.Values .component -}}
serviceAccountName: {{ include "turnout.serviceAccount" .root }}
automountServiceAccountToken: false
{{- /* A service called turnout would otherwise set variables that look like ours. */}}
enableServiceLinks: false
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
topologySpreadConstraints:
{{- if $own.topologySpreadConstraints }}
  {{- toYaml $own.topologySpreadConstraints | nindent 2 }}
{{- else }}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "turnout.selector" $ | nindent 8 }}
{{- end }}
{{- end }}
{{- with $own.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "turnout.metadata" -}}
annotations:
  checksum/config: {{ include "turnout.config" .root | sha256sum }}
  {{- with (index .root.Values .component).podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
labels:
  {{- include "turnout.labels" . | nindent 2 }}
  {{- with (index .root.Values .component).podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "turnout.volumes" -}}
- name: config
  configMap:
    name: {{ include "turnout.fullname" .root }}
- name: state
  emptyDir:
    sizeLimit: 64Mi
{{- with (index .root.Values .component).extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "turnout.mounts" -}}
- name: config
  mountPath: /etc/turnout
  readOnly: true
- name: state
  mountPath: /var/lib/turnout
{{- with (index .root.Values .component).extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}
