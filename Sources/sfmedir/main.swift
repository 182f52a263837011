import CommandLineTool

await SFMedIR.main()
