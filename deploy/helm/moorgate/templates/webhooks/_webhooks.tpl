{{/* Namespaces that no admission may hold up, as a JSON list: what a cluster, a gateway and its neighbours need to start. */}}
{{- define "moorgate.excludedNamespaces" -}}
{{- if and .Values.webhooks.enabled (eq .Release.Namespace "default") }}
{{- fail "install Moorgate into a namespace of its own (--namespace moorgate --create-namespace): it does not look at Pods in the one where it runs" }}
{{- end -}}
{{- $names := concat (list .Release.Namespace .Values.webhooks.natsNamespace .Values.webhooks.anchoreNamespace "kube-system" "kube-node-lease" "kube-public") (include "moorgate.neighboursNamespaces" . | fromJsonArray) .Values.webhooks.excludedNamespaces -}}
{{- $names | compact | uniq | toJson -}}
{{- end }}

{{/* Addresses of Anchore and of a NATS of the cluster's own, as a JSON list. */}}
{{- define "moorgate.anchoreUrls" -}}
{{- $urls := list .Values.anchore.url -}}
{{- range $tenant := .Values.tenants.inline }}{{ $urls = append $urls $tenant.url }}{{ end -}}
{{- $urls | compact | toJson -}}
{{- end }}

{{- define "moorgate.natsUrls" -}}
{{- .Values.nats.builtin.enabled | ternary list (splitList "," .Values.nats.url) | compact | toJson -}}
{{- end }}

{{/* Of the receivers of notifications, so far as they are no secret. */}}
{{- define "moorgate.notifyUrls" -}}
{{- $urls := list -}}
{{- range .Values.notify.inline.targets }}{{ $urls = append $urls .url }}{{ end -}}
{{- $urls | compact | toJson -}}
{{- end }}

{{/*
In which namespaces Anchore and NATS are, where their addresses are those of Services (`service.namespace.svc`) or of Pods behind one
(`pod.service.namespace.svc`), as a JSON list.
*/}}
{{- define "moorgate.neighboursNamespaces" -}}
{{- $names := list -}}
{{- range concat (include "moorgate.anchoreUrls" . | fromJsonArray) (include "moorgate.natsUrls" . | fromJsonArray) -}}
{{- $labels := splitList "." (urlParse (trim .)).hostname -}}
{{- range $place := list 1 2 -}}
{{- if and (gt (len $labels) (add1 $place | int)) (eq (index $labels (add1 $place | int)) "svc") }}{{ $names = append $names (index $labels $place) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $names | uniq | toJson -}}
{{- end }}

{{/*
One gate looks at the whole cluster; two would each hold up the other's Pods. Asked of the cluster, where there is one. What is
registered by hand, without the chart, is of no release.
*/}}
{{- define "moorgate.refuseASecond" -}}
{{- range (lookup "admissionregistration.k8s.io/v1" "ValidatingWebhookConfiguration" "" "").items -}}
{{- $labels := .metadata.labels | default dict -}}
{{- $namespace := dig "clientConfig" "service" "namespace" $.Release.Namespace (first .webhooks | default dict) -}}
{{- $release := get $labels "app.kubernetes.io/instance" -}}
{{- if and $release (eq (get $labels "app.kubernetes.io/part-of") "moorgate") (or (ne $release $.Release.Name) (ne $namespace $.Release.Namespace)) }}
{{- fail (printf "one release serves the whole cluster, and %s in the namespace %s has registered its gateways already (%s): upgrade or uninstall that one; where it is gone, kubectl delete validatingwebhookconfiguration %s" $release $namespace .metadata.name .metadata.name) }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "moorgate.namespaceSelector" -}}
{{- $more := .Values.webhooks.namespaceSelector }}
{{- with $more.matchLabels -}}
matchLabels: {{- toYaml . | nindent 2 }}
{{ end -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{- include "moorgate.excludedNamespaces" . | fromJsonArray | toYaml | nindent 6 }}
  {{- with $more.matchExpressions }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/*
CEL that lets an update pass unseen when no image changes: dict of root and podSpec, where the object `o` has its Pod's spec.
Fields may be absent. Lists are compared as they are, which costs the API server little however long they are; two
that differ in order alone are sent, which costs a call and nothing else.
*/}}
{{- define "moorgate.matchConditions" -}}
- name: not-being-deleted
  expression: request.operation != 'UPDATE' || !has(object.metadata.deletionTimestamp)
- name: images-changed
  expression: >-
    request.operation != 'UPDATE' ||
    [[oldObject, object].map(o, {{ .podSpec }}).map(s, [
    s.?containers.orValue([]).map(c, c.?image.orValue('')),
    s.?initContainers.orValue([]).map(c, c.?image.orValue('')),
    s.?ephemeralContainers.orValue([]).map(c, c.?image.orValue('')),
    s.?volumes.orValue([]).filter(v, has(v.image)).map(v, v.image.?reference.orValue(''))
    ])].exists(images, images[0] != images[1])
{{- with .root.Values.webhooks.matchConditions }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* One webhook: dict of root, name, podSpec, failurePolicy and timeoutSeconds. */}}
{{- define "moorgate.webhook" -}}
{{- $ := .root -}}
name: {{ .name }}.security.banzaicloud.com
clientConfig:
  service:
    name: {{ include "moorgate.fullname" $ }}-gateway
    namespace: {{ $.Release.Namespace | quote }}
    path: /imagecheck
    port: 443
failurePolicy: {{ .failurePolicy }}
timeoutSeconds: {{ .timeoutSeconds }}
matchPolicy: Equivalent
sideEffects: NoneOnDryRun
admissionReviewVersions: [v1]
namespaceSelector: {{- include "moorgate.namespaceSelector" $ | nindent 2 }}
matchConditions: {{- include "moorgate.matchConditions" . | nindent 2 }}
{{- end }}

{{- define "moorgate.webhookMetadata" -}}
labels:
  {{- include "moorgate.labels" (dict "root" . "component" "webhooks") | nindent 2 }}
  {{- if eq .Values.tls.issuer "self" }}
  security.banzaicloud.com/inject-ca: {{ .Release.Namespace | quote }}
  {{- end }}
{{- if eq .Values.tls.issuer "cert-manager" }}
annotations:
  cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/{{ include "moorgate.fullname" . }}-gateway
{{- end }}
{{- end }}

{{- define "moorgate.podsConfiguration" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata:
  name: {{ include "moorgate.fullname" . }}-pods
  {{- include "moorgate.webhookMetadata" . | nindent 2 }}
webhooks:
  - {{- include "moorgate.webhook" (dict "root" . "name" "pods" "podSpec" "o.spec" "failurePolicy" .Values.webhooks.failurePolicy "timeoutSeconds" .Values.webhooks.timeoutSeconds) | nindent 4 }}
    rules:
      - apiGroups: [""]
        apiVersions: [v1]
        resources: [pods]
        operations: [CREATE, UPDATE]
        scope: Namespaced
      - apiGroups: [""]
        apiVersions: [v1]
        resources: [pods/ephemeralcontainers]
        operations: [UPDATE]
        scope: Namespaced
{{- end }}

{{/* They only warn: `Ignore` and 2 s, so that no rollout and no rollback is ever held up. */}}
{{- define "moorgate.workloadsConfiguration" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata:
  name: {{ include "moorgate.fullname" . }}-workloads
  {{- include "moorgate.webhookMetadata" . | nindent 2 }}
webhooks:
  - {{- include "moorgate.webhook" (dict "root" . "name" "workloads" "podSpec" "o.spec.template.spec" "failurePolicy" "Ignore" "timeoutSeconds" 2) | nindent 4 }}
    rules:
      - apiGroups: [apps]
        apiVersions: [v1]
        resources: [deployments, statefulsets, daemonsets, replicasets]
        operations: [CREATE, UPDATE]
        scope: Namespaced
      - apiGroups: [batch]
        apiVersions: [v1]
        resources: [jobs]
        operations: [CREATE, UPDATE]
        scope: Namespaced
  - {{- include "moorgate.webhook" (dict "root" . "name" "cronjobs" "podSpec" "o.spec.jobTemplate.spec.template.spec" "failurePolicy" "Ignore" "timeoutSeconds" 2) | nindent 4 }}
    rules:
      - apiGroups: [batch]
        apiVersions: [v1]
        resources: [cronjobs]
        operations: [CREATE, UPDATE]
        scope: Namespaced
{{- end }}

{{/* Where the authorities of the gateways' certificate are, if they do not issue it themselves. */}}
{{- define "moorgate.caSecret" -}}
{{ .Values.tls.caSecret | default (include "moorgate.tlsSecret" .) }}
{{- end }}
