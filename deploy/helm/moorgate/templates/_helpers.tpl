{{/* Names, labels and what several components' templates say alike. Each has one home here. */}}

{{- define "moorgate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/*
The release's name where it tells what it is, else release-chart. 40 characters: names of Pods hang more on it. Names of Services
have no dots and begin with a letter (RFC 1035).
*/}}
{{- define "moorgate.fullname" -}}
{{- $release := .Release.Name | replace "." "-" }}
{{- $name := printf "%s-%s" $release (include "moorgate.name" .) }}
{{- if .Values.fullnameOverride }}
{{- $name = .Values.fullnameOverride }}
{{- else if contains (include "moorgate.name" .) $release }}
{{- $name = $release }}
{{- end }}
{{- if not (regexMatch "^[a-z]" $name) }}
{{- fail (printf "the release's name %s begins with no letter, which a Service's must: set fullnameOverride" .Release.Name) }}
{{- end }}
{{- $name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Labels of every object. Give a dict of root and component, or the root alone for what belongs to all. */}}
{{- define "moorgate.labels" -}}
{{- $root := .root | default . -}}
{{- with $root.Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "moorgate.selectorLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: moorgate
{{- end }}

{{/* The same with more, which go before commonLabels: dict of root, component and more. One map, for YAML takes a key once. */}}
{{- define "moorgate.labelsWith" -}}
{{- toYaml (merge (dict) (.more | default dict) (include "moorgate.labels" . | fromYaml)) }}
{{- end }}

{{/* Labels by which a component's Pods are found: they never change. */}}
{{- define "moorgate.selectorLabels" -}}
{{- $root := .root | default . -}}
app.kubernetes.io/name: {{ include "moorgate.name" $root | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "moorgate.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Of a dict of root and component. */}}
{{- define "moorgate.serviceAccountName" -}}
{{ include "moorgate.fullname" .root }}-{{ .component }}
{{- end }}

{{/* A ServiceAccount: dict of root, component and the component's values. Who needs a token mounts it in the Pod. */}}
{{- define "moorgate.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "moorgate.serviceAccountName" . }}
  namespace: {{ .root.Release.Namespace | quote }}
  labels: {{- include "moorgate.labels" . | nindent 4 }}
  {{- with .values.serviceAccountAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* securityContext of every Pod: no user of the node's, and no call that a container never needs. */}}
{{- define "moorgate.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "moorgate.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "moorgate.priorityClassName" -}}
{{- if .values.priorityClassName -}}
{{ .values.priorityClassName }}
{{- else if .root.Values.priorityClass.create -}}
{{ include "moorgate.fullname" .root }}
{{- end -}}
{{- end }}

{{/*
How many Pods a Deployment has: dict of root, component and values. With an autoscaler as many as there are: an apply that gives no
number takes away the one of the apply before, and Kubernetes reads none as 1. Without a cluster to ask there is none to give.
*/}}
{{- define "moorgate.replicas" -}}
{{- $name := printf "%s-%s" (include "moorgate.fullname" .root) .component -}}
{{- $namespace := .root.Release.Namespace -}}
{{- $scaling := .values.autoscaling -}}
{{- if not $scaling.enabled -}}
{{ .values.replicas }}
{{- else -}}
{{- with lookup "apps/v1" "Deployment" $namespace $name -}}
{{- if lookup "autoscaling/v2" "HorizontalPodAutoscaler" $namespace $name -}}
{{ int .spec.replicas }}
{{- else -}}
{{ max $scaling.minReplicas .spec.replicas }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Where a component's Pods run: dict of root, component, values. Apart from one another, where nothing else is said. */}}
{{- define "moorgate.scheduling" -}}
{{- $labels := include "moorgate.selectorLabels" . -}}
{{- with include "moorgate.priorityClassName" . -}}
priorityClassName: {{ . | quote }}
{{ end -}}
{{- with .values.nodeSelector -}}
nodeSelector: {{- toYaml . | nindent 2 }}
{{ end -}}
{{- $tolerations := .values.tolerations -}}
{{- if hasKey .values "nodeLossSeconds" -}}
{{- range $taint := list "not-ready" "unreachable" -}}
{{- $tolerations = append $tolerations (dict "key" (printf "node.kubernetes.io/%s" $taint) "operator" "Exists" "effect" "NoExecute" "tolerationSeconds" (int $.values.nodeLossSeconds)) -}}
{{- end -}}
{{- end -}}
{{- with $tolerations -}}
tolerations: {{- toYaml . | nindent 2 }}
{{ end -}}
affinity:
  {{- if .values.affinity }}
  {{- toYaml .values.affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- $labels | nindent 14 }}
  {{- end }}
topologySpreadConstraints:
  {{- if .values.topologySpreadConstraints }}
  {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- $labels | nindent 8 }}
  {{- with .values.nodeSpread }}
  # Each rollout by itself, and over nodes that can be had: a lost one keeps nobody waiting.
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: {{ . }}
    nodeTaintsPolicy: Honor
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels: {{- $labels | nindent 8 }}
  {{- end }}
  {{- end }}
{{- end }}

{{/* Labels and annotations of a component's Pods: dict of root, component, values, and annotations of the chart's own. */}}
{{- define "moorgate.podMetadata" -}}
labels: {{- include "moorgate.labelsWith" (dict "root" .root "component" .component "more" .values.podLabels) | nindent 2 }}
{{- with merge (dict) .values.podAnnotations (.annotations | default dict) }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Settings of every service: dict of root. */}}
{{- define "moorgate.commonEnv" -}}
- name: MOORGATE_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: MOORGATE_LOG_LEVEL
  value: {{ .root.Values.log.level }}
- name: MOORGATE_LOG_FORMAT
  value: {{ .root.Values.log.format }}
{{- end }}

{{/* How images are judged that no ImagePolicy matches: gateways and audit-writers must be told the same. Dict of root. */}}
{{- define "moorgate.policyEnv" -}}
{{- with .root.Values.policy -}}
- name: MOORGATE_MODE
  value: {{ .mode | default "off" | quote }}
- name: MOORGATE_ON_PENDING
  value: {{ .onPending }}
- name: MOORGATE_ON_ERROR
  value: {{ .onError }}
- name: MOORGATE_RELEASE_LABELS
  value: {{ join "," .releaseLabels | quote }}
- name: MOORGATE_WHITELIST_CLUSTER_WIDE
  value: {{ .whitelistClusterWide | quote }}
{{- end }}
{{- end }}

{{/* The three probes of a service of ours. A start may wait for the API server and for NATS, a restart helps neither. */}}
{{- define "moorgate.probes" -}}
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 2
{{- end }}

{{/* The Secret of the account by which scanners ask Anchore. */}}
{{- define "moorgate.anchoreSecret" -}}
{{ .Values.anchore.existingSecret | default (printf "%s-anchore" (include "moorgate.fullname" .)) }}
{{- end }}

{{/* The Secret that holds the gateways' certificate where they do not issue it themselves. */}}
{{- define "moorgate.tlsSecret" -}}
{{- if eq .Values.tls.issuer "secret" -}}
{{ required "tls.existingSecret: name the Secret (type kubernetes.io/tls) of the gateways' certificate" .Values.tls.existingSecret }}
{{- else -}}
{{ include "moorgate.fullname" . }}-gateway-cert
{{- end -}}
{{- end }}

{{/* The Secret that holds the page's certificate. */}}
{{- define "moorgate.pageSecret" -}}
{{- with .Values.page.certificate -}}
{{- if .issuerName -}}
{{ .secretName | default (printf "%s-page-cert" (include "moorgate.fullname" $)) }}
{{- else -}}
{{ required "page.certificate.secretName: name the Secret (type kubernetes.io/tls) of the page's certificate, or the issuerName that makes it" .secretName }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The Secret with the path's secret, key `secret`. */}}
{{- define "moorgate.pathSecret" -}}
{{ include "moorgate.fullname" . }}-webhook-path
{{- end }}

{{/* The sources of a volume with ca.crt: a dict of secret, configMap and key. */}}
{{- define "moorgate.authoritiesSources" -}}
{{- if and .secret .configMap }}
{{- fail (printf "authorities: give the Secret %s or the ConfigMap %s, not both: each would be ca.crt" .secret .configMap) }}
{{- end }}
{{- with .secret }}
- secret:
    name: {{ . | quote }}
    items: [{key: {{ $.key | quote }}, path: ca.crt}]
{{- end }}
{{- with .configMap }}
- configMap:
    name: {{ . | quote }}
    items: [{key: {{ $.key | quote }}, path: ca.crt}]
{{- end }}
{{- end }}
