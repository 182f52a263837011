import CommandLineTool

await SFMedIR.start()
