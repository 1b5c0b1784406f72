{{/* A manifest of kustomize's, for this release's namespace: files/ links to them. */}}
{{- define "credlet.manifest" -}}
{{- $text := .root.Files.Get .file | required (printf "%s is missing" .file) -}}
{{- $namespace := .root.Release.Namespace -}}
{{- $text
  | replace "namespace: credlet" (printf "namespace: %s" $namespace)
  | replace "system:serviceaccount:credlet:" (printf "system:serviceaccount:%s:" $namespace)
  | replace "credlet.dev/agent-not-ready" .root.Values.agent.startupTaint -}}
{{- end -}}

{{- define "credlet.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* The agents' environment that is the same for all of them. */}}
{{- define "credlet.settings" -}}
{{- $own := dict "CREDLET_CLUSTER_NAME" .Values.clusterName "AWS_REGION" .Values.region -}}
{{- range $name, $value := merge (deepCopy .Values.settings) $own }}
{{ $name }}: {{ $value | toString | quote }}
{{- end }}
{{- end -}}

{{/* What a component sets in the environment of the agents, or of a Deployment. */}}
{{- define "credlet.components" -}}
credlet:
  associationStatus: {name: CREDLET_ASSOCIATION_STATUS, value: "on"}
  imds: {name: CREDLET_IMDS, value: node}
  monitoring: {name: CREDLET_METRICS_ADDRESS, value: "0.0.0.0:2705"}
  requestTokens: {name: CREDLET_REQUEST_TOKENS, value: "true"}
  startupTaint: {name: CREDLET_STARTUP_TAINT, value: {{ .Values.agent.startupTaint }}}
  sync: {name: CREDLET_ASSOCIATION_SOURCES, value: "{{ if .Values.associations }}file,{{ end }}crd,annotation"}
credlet-sync:
  syncAck: {name: CREDLET_SYNC_SOURCE, value: ack}
credlet-webhook:
  evictMissed: {name: CREDLET_EVICT_MISSED, value: "true"}
{{- end -}}

{{/* A DaemonSet or Deployment as the values have it: the image, the environment by
     components and by settings, and news of what those settings are. */}}
{{- define "credlet.workload" -}}
{{- $root := .root -}}
{{- $object := .object -}}
{{- $template := $object.spec.template -}}
{{- $pod := $template.spec -}}
{{- $container := first $pod.containers -}}
{{- $_ := set $container "image" (include "credlet.image" $root) -}}
{{- $_ = set $container "imagePullPolicy" $root.Values.image.pullPolicy -}}
{{- $_ = set $container "resources" .values.resources -}}
{{- with $root.Values.image.pullSecrets -}}
{{- $_ = set $pod "imagePullSecrets" . -}}
{{- end -}}
{{- range $component, $setting := get (include "credlet.components" $root | fromYaml) $object.metadata.name -}}
{{- if index $root.Values.components $component -}}
{{- $_ = set $container "env" (append $container.env $setting) -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := .values.settings -}}
{{- $_ = set $container "env" (append $container.env (dict "name" $name "value" (toString $value))) -}}
{{- end -}}
{{- if and $root.Values.associations (ne $object.metadata.name "credlet-sync") -}}
{{- $_ = set $container "env" (append $container.env (dict "name" "CREDLET_ASSOCIATION_FILE" "value" "/etc/credlet/associations.yaml")) -}}
{{- $_ = set $container "volumeMounts" (append ($container.volumeMounts | default list) (dict "name" "associations" "mountPath" "/etc/credlet" "readOnly" true)) -}}
{{- $_ = set $pod "volumes" (append ($pod.volumes | default list) (dict "name" "associations" "configMap" (dict "name" "credlet-associations"))) -}}
{{- end -}}
{{- $settings := dict "credlet.dev/settings" (include "credlet.settings" $root | sha256sum) -}}
{{- $_ = set $template.metadata "annotations" (merge $settings (.values.podAnnotations | default dict)) -}}
{{- end -}}

{{/* A mutating policy or its binding, with what the policies begin with: a map in CEL. */}}
{{- define "credlet.mutatingPolicy" -}}
{{- $values := .root.Values.mutatingPolicy -}}
{{- $v1 := .root.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" -}}
{{- $_ := set .object "apiVersion" ($values.apiVersion | default (ternary "admissionregistration.k8s.io/v1" "admissionregistration.k8s.io/v1beta1" $v1)) -}}
{{- range .object.spec.variables -}}
{{- if eq .name "settings" -}}
{{- $_ := set . "expression" (include "credlet.mutatingPolicy.settings" $.root) -}}
{{- end -}}
{{- end -}}
{{- toYaml .object -}}
{{- end -}}

{{- define "credlet.mutatingPolicy.settings" -}}
{{- $policy := .Values.mutatingPolicy -}}
{'annotated': '{{ $policy.annotated }}',
'audience': 'pods.eks.amazonaws.com',
'endpoints': '{{ $policy.endpoints }}',
'exchange': '{{ .Values.settings.CREDLET_EXCHANGE | default "assume-role" }}',
'prefix': 'eks.amazonaws.com',
'region': '{{ .Values.region }}',
'tokenExpiration': '{{ int64 $policy.tokenExpiration }}',
'uri': 'http://169.254.170.23/v1/credentials',
'webIdentityAudience': 'sts.amazonaws.com'}
{{ end -}}
