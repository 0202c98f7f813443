#compdef txinspect

_txinspect_completion() {
  eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _TXINSPECT_COMPLETE=complete_zsh txinspect)
}

compdef _txinspect_completion txinspect

